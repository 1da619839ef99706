// The page holds a draft and its history. What a change makes of it, and all that is shown of it, comes from the server.
import { listenToAttacks } from "/attack.js";
import { drawCell } from "/drawing.js";

const HISTORY = 200, KEPT = 20;
const at = (id) => document.getElementById(id);
const state = {
  start: null, views: [], now: -1, cell: "", depth: 0, chosen: null, seen: null, saved: null, downloaded: null, nearest: null,
};
const view = () => state.views[state.now];
// A cell may be named as what every object has, such as `constructor`.
const has = (cells, name) => Object.hasOwn(cells, name);

/** Return an element. Properties: `on...` are listeners, `data...` and `aria...` attributes, others are set as they are. */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "key") element.dataset.key = value;
    else if (key === "place") element.dataset.place = value;
    else if (key.includes("-") || key === "role") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function announce(text) { at("announcement").textContent = text; }

function banner(text, serious = true) {
  at("banner").hidden = !text;
  at("banner").textContent = text;
  at("banner").className = serious ? "notice serious" : "notice";
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

/** Ask the server. While it does not answer, the page says so and asks again. */
async function ask(question, body) {
  let away = false;
  for (;;) {
    let response, answer;
    try {
      response = await fetch(`/api/${question}`, {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
      });
      answer = await response.json();
    } catch {
      away = true;
      document.body.classList.add("away");
      banner("The server does not answer. Nothing is lost: start it again with the same command, and this page goes on. Download still works.");
      await pause(1);
      continue;
    }
    if (away) {
      document.body.classList.remove("away");
      banner("");
      announce("The server is back.");
    }
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }
}

let queue = Promise.resolve();
/** Do one thing after the other, so that each change begins with what the one before made. */
function inTurn(work) {
  queue = queue.then(work).catch((error) => { banner(error.message); render(); });
  return queue;
}

function edit(change, said) {
  return inTurn(async () => {
    accept(await ask("edit", { draft: view().document, change }));
    announce(`${said} ${verdictInWords()}`);
  });
}

/** Show a new view, which the next undo leaves. */
function accept(next) {
  banner("");
  if (state.now >= 0 && next.text === view().text) return render();
  state.views = [...state.views.slice(0, state.now + 1), next].slice(-HISTORY);
  state.now = state.views.length - 1;
  render();
}

function go(step) {
  return inTurn(async () => {
    if (!state.views[state.now + step]) return;
    state.now += step;
    render();
    announce(`${step < 0 ? "Undone." : "Done again."} ${verdictInWords()}`);
  });
}

function verdictInWords() {
  const count = view().problems.length;
  return count ? `${count} ${count === 1 ? "problem" : "problems"}: ${view().problems[0].text}` : "Valid.";
}

// Rendering: whole parts at a time; what had the focus is found again by its key.
function render() {
  const key = document.activeElement?.dataset?.key;
  const shown = view();
  if (!has(shown.cells, state.cell)) state.cell = shown.layout[0].cell;
  state.depth = Math.min(state.depth, shown.layout.length - 1);
  if (state.chosen && !stillThere()) state.chosen = null;
  at("name").value = shown.document.name;
  document.title = `${shown.document.name} · robnet-zoo edit`;
  at("undo").disabled = state.now < 1;
  at("redo").disabled = state.now === state.views.length - 1;
  at("save").hidden = !state.start.file;
  at("save").disabled = shown.problems.length > 0 || shown.text === state.saved;
  at("save").textContent = shown.text === state.saved ? "Saved" : "Save";
  at("download").disabled = shown.problems.length > 0;
  renderLayout(shown);
  renderCell(shown);
  renderNetwork(shown);
  renderFacts(shown);
  markProblems(shown);
  keep();
  attacks.shown(shown);
  if (key) document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function stillThere() {
  const { edge, node } = state.chosen, cell = view().cells[state.cell];
  return edge ? cell.edges.some(({ source, target }) => source === edge[0] && target === edge[1])
    : cell.nodes.some((other) => other.node === node);
}

function select(label, options, value, props, changed) {
  const id = `field-${props.key.replaceAll(" ", "-")}`;
  const field = h("select", { id, ...props, onchange: () => changed(field.value) },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  return [h("label", { htmlFor: id }, label), field];
}

function number(label, value, key, place, changed) {
  const id = `field-${key.replaceAll(" ", "-")}`;
  const field = h("input", {
    id, type: "number", min: 1, step: 1, value, key, place, required: true,
    onchange: () => changed(field.value === "" ? null : Number(field.value)),
  });
  return h("div", { className: "field" }, h("label", { htmlFor: id }, label), field);
}

function check(label, checked, key, changed, extra = {}) {
  return h("label", { className: "check" }, h("input", { type: "checkbox", checked, key, onchange: changed, ...extra }), label);
}

function button(text, key, onclick, extra = {}) {
  return h("button", { type: "button", key, onclick, ...extra }, text);
}

function renderLayout(shown) {
  const several = Object.keys(shown.cells).length > 1;
  at("layout").replaceChildren(...shown.layout.map((stage, depth) => h("li", {},
    h("button", {
      type: "button", key: `depth ${depth}`, place: `layout.${depth}`,
      className: `stage${stage.cell === state.cell ? " same" : ""}`,
      "aria-pressed": depth === state.depth,
      "aria-label": `Depth ${depth}: cell ${stage.cell}${stage.reduction ? ", halves the size" : ""}${stage.denoised ? ", denoised" : ""}${stage.output ? `, output ${stage.output}` : ""}`,
      onclick: () => { state.depth = depth; show(stage.cell); },
    },
    h("span", { className: "depth" }, depth, stage.reduction ? h("b", { title: "halves the size, doubles the channels" }, "½") : null, stage.denoised ? h("b", { title: "denoised" }, "~") : null),
    several ? h("span", { className: "called" }, stage.cell) : null,
    h("span", { className: "size" }, stage.output || "–")))));
  const stage = shown.layout[state.depth];
  at("at-depth").replaceChildren(
    h("strong", {}, `At depth ${state.depth}`),
    ...select("Cell", Object.keys(shown.cells).map((name) => [name, name]), stage.cell, { key: "put", place: `layout.${state.depth}` },
      (cell) => { state.cell = cell; edit({ kind: "put", cell, depth: state.depth }, `Cell ${cell} at depth ${state.depth}.`); }),
    check("halves the size", stage.reduction, "reduce", () => edit({ kind: "reduce", depth: state.depth }, "Reduction changed.")),
    button("Copy of the cell for this depth", "own cell", () => {
      const name = freshName(stage.cell);
      state.cell = name;
      edit({ kind: "copy_cell", cell: stage.cell, name, depth: state.depth }, `Cell ${name} at depth ${state.depth}.`);
    }),
    button("Insert another behind", "insert", () => edit({ kind: "insert", depth: state.depth }, "Cell inserted.")),
    button("Remove", "remove", () => edit({ kind: "remove", depth: state.depth }, "Cell removed."), { disabled: shown.layout.length === 1, "aria-label": `Remove the cell at depth ${state.depth}` }),
  );
}

function freshName(name) {
  const stem = name.replace(/_\d+$/, "");
  for (let count = 1; ; count += 1) if (!has(view().cells, `${stem}_${count}`)) return `${stem}_${count}`;
}

function show(cell) {
  if (cell !== state.cell) state.chosen = null;
  state.cell = cell;
  render();
}

function choose(what) {
  state.chosen = what;
  render();
  announce(`${what.edge ? `Edge ${what.edge.join(" to ")}` : `Node ${what.node}`} is chosen; its switches follow the drawing.`);
}

function renderCell(shown) {
  const cell = shown.cells[state.cell], name = state.cell;
  const rename = h("input", {
    id: "cell-name", key: "cell name", value: name, maxLength: 100, spellcheck: false, autocomplete: "off",
    onchange: () => {
      const next = rename.value;
      edit({ kind: "rename_cell", cell: name, name: next }, `Cell renamed ${next}.`).then(() => { if (has(view().cells, next)) show(next); });
    },
  });
  at("cell-tools").replaceChildren(...[
    ...select("Show", Object.keys(shown.cells).map((other) => [other, other]), name, { key: "cell" }, show),
    h("label", { htmlFor: "cell-name" }, "Name"), rename,
    button("Add a node", "add node", () => edit({ kind: "add_node", cell: name }, `Node ${cell.nodes.length} added.`)),
    button("Clear", "clear", () => edit({ kind: "clear", cell: name }, "All operations are off."), { "aria-label": "Switch off every operation of the cell" }),
    button("Use at every depth", "everywhere", () => edit({ kind: "put", cell: name }, `Cell ${name} at every depth.`)),
    cell.depths.length ? null : button("Remove the cell", "remove cell", () => edit({ kind: "remove_cell", cell: name }, "Cell removed.")),
    h("span", { className: "hint" }, cell.summary),
  ].filter(Boolean));
  at("drawing").replaceChildren(drawCell(name, cell, { colours: shown.colours, chosen: state.chosen, choose, place: `cells.${name}` }));
  at("chosen").replaceChildren(...chosenPanel(shown, cell, name));
  at("table").replaceChildren(switchTable(shown, cell, name));
}

function chip(shown, operation) {
  const element = h("span", { className: "chip" });
  element.style.setProperty("--op", shown.colours[operation]);
  return element;
}

function flip(edge, operation) {
  const [source, target] = edge;
  return edit({ kind: "switch", cell: state.cell, source, target, operation }, `${operation} on edge ${source} to ${target} switched.`);
}

function chosenPanel(shown, cell, name) {
  if (!state.chosen) return [h("span", { className: "hint" }, "No edge or node is chosen.")];
  const { edge, node } = state.chosen;
  if (edge) {
    const { on, live, direct } = cell.edges.find(({ source, target }) => source === edge[0] && target === edge[1]);
    return [
      h("fieldset", {}, h("legend", {}, `Edge ${edge[0]} → ${edge[1]} `, h("small", {}, `${direct ? "direct" : "skip"}${live ? "" : ", does not reach the output"}`)),
        shown.document.operations.map((operation) => check([chip(shown, operation), operation], on.includes(operation), `switch ${operation}`, () => flip(edge, operation)))),
    ];
  }
  const chosen = cell.nodes.find((other) => other.node === node);
  return [
    h("strong", {}, `Node ${node}`),
    check("in the output", chosen.output, "join", () => edit({ kind: "join", cell: name, node }, `Node ${node} ${chosen.output ? "out of" : "in"} the output.`)),
    button("Remove the node", "remove node", () => edit({ kind: "remove_node", cell: name, node }, `Node ${node} removed.`), { disabled: cell.nodes.length === 3 }),
  ];
}

function switchTable(shown, cell, name) {
  const operations = shown.document.operations;
  const table = h("table", {},
    h("caption", { className: "unseen" }, `Operations on the edges of the cell ${name}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "edge"), operations.map((operation) => h("th", { scope: "col" }, chip(shown, operation), operation)))),
    h("tbody", {}, cell.edges.map(({ source, target, on }, row) => h("tr", {},
      h("th", { scope: "row" }, `${source} → ${target}`),
      operations.map((operation) => h("td", {}, h("input", {
        type: "checkbox", checked: on.includes(operation), "aria-label": `${operation} on edge ${source} to ${target}`,
        key: `table ${source} ${target} ${operation}`, place: `cells.${name}.alpha.${row}`,
        onchange: () => flip([source, target], operation),
      })))))));
  return h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "All switches" }, table);
}

function renderNetwork(shown) {
  const { network, operations } = shown.document;
  const set = (key) => (value) => edit({ kind: "network", [key]: value }, `${key.replaceAll("_", " ")}: ${value}.`);
  const side = (index) => (value) => {
    const size = [...network.input_size];
    size[index] = value;
    set("input_size")(size);
  };
  const field = (...children) => h("div", { className: "field" }, ...children.flat());
  at("network").replaceChildren(
    number("channels", network.channels, "channels", "network.channels", set("channels")),
    number("cells", shown.layout.length, "cells", "network.depth", (depth) => edit({ kind: "depth", depth }, `${depth} cells.`)),
    number("classes", network.num_classes, "classes", "network.num_classes", set("num_classes")),
    number("image channels", network.input_size[0], "image channels", "network.input_size.0", side(0)),
    number("height", network.input_size[1], "height", "network.input_size.1", side(1)),
    number("width", network.input_size[2], "width", "network.input_size.2", side(2)),
    field(select("stem", [["cifar", "cifar"], ["imagenet", "imagenet"]], network.stem, { key: "stem", place: "network.stem" }, set("stem"))),
    field(select("denoising", [["", "none"], ...state.start.denoise_forms.map((form) => [form, form])], network.denoise?.form ?? "",
      { key: "denoising", place: "network.denoise" }, (form) => edit({ kind: "denoise", form: form || null }, `Denoising: ${form || "none"}.`))),
    field(check("norms learn a scale and shift", network.affine, "affine", () => set("affine")(!network.affine))),
    h("fieldset", { className: "wide" }, h("legend", {}, "Operations that edges may carry"),
      state.start.operations.map((operation) => check(operation, operations.includes(operation), `vocabulary ${operation}`,
        () => edit({ kind: "vocabulary", operation }, `${operation} ${operations.includes(operation) ? "taken away" : "added"}.`)))),
  );
}

function renderFacts(shown) {
  const valid = !shown.problems.length;
  at("verdict").replaceChildren(valid
    ? h("p", { className: "quiet" }, "Valid: it compiles.")
    : h("ul", { className: "problems" }, shown.problems.map((problem, index) => h("li", {},
      h("button", { type: "button", className: "where", key: `problem ${index}`, onclick: () => reveal(problem), "aria-label": `Go to ${problem.where}` }, problem.where || "spec"),
      " ", problem.text))));
  at("figures").replaceChildren(valid
    ? h("dl", {}, shown.figures.map((figure) => h("div", { id: `figure-${figure.key}` }, h("dt", {}, figure.name), h("dd", {}, figure.text, figure.note ? h("small", {}, figure.note) : null))),
      h("div", {}, h("dt", {}, "hash"), h("dd", { className: "hash", title: shown.hash }, h("span", { id: "hash" }, shown.hash.slice(0, 12)), "…", " ", copier(shown.hash, "hash"))))
    : h("p", { className: "hint" }, "They follow once the spec is valid."));
  at("passes").replaceChildren(!valid ? h("p", { className: "hint" }, "They run on valid specs.")
    : shown.passes.length ? h("ul", { className: "passes" }, shown.passes.map((pass) => h("li", {},
      h("code", {}, pass.name), ` would remove ${pass.removes}. `, h("span", { className: "hint" }, pass.summary), " ",
      button("Apply", `pass ${pass.name}`, () => edit({ kind: "pass", name: pass.name }, `${pass.name} applied.`), { "aria-label": `Apply ${pass.name}` }))))
      : h("p", { className: "quiet" }, "There is nothing that could be removed without changing the function."));
  at("line").replaceChildren(valid
    ? h("div", { className: "line" }, h("code", { id: "training-line" }, shown.line), copier(shown.line, "command"))
    : h("p", { className: "hint" }, "The command follows once the spec is valid."));
  at("glance").textContent = valid
    ? ["Valid", ...shown.figures.slice(0, 2).map((figure) => `${figure.text} ${figure.name}`)].join(" · ")
    : `${shown.problems[0].where}: ${shown.problems[0].text}`;
  at("glance").className = valid ? "quiet" : "wrong";
  renderNearest();
}

function copier(text, what) {
  const control = button("Copy", `copy ${what}`, async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce(`The ${what} is copied.`);
      control.textContent = "Copied";
    } catch {
      banner(`This browser does not let the page copy: select the ${what} and copy it yourself.`, false);
    }
  }, { "aria-label": `Copy the ${what}`, className: "small" });
  return control;
}

async function renderNearest() {
  const asked = `${state.cell}\n${view().text}`;
  if (state.nearest?.asked === asked) return;
  state.nearest = { asked };
  try {
    const answer = await ask("nearest", { draft: view().document, cell: state.cell });
    if (state.nearest.asked !== asked) return;
    at("nearest").replaceChildren(
      h("p", { className: "hint" }, answer.why_not || `How many switches make ${answer.cell} the other cell, however its nodes are numbered.`),
      h("ol", { className: "neighbours" }, answer.neighbours.map((other) => h("li", {},
        h("strong", {}, other.distance), ` ${other.architectures.join(", ")}`, h("small", {}, other.cell)))));
  } catch (error) {
    at("nearest").replaceChildren(h("p", { className: "hint" }, error.message));
  }
}

/** Return the control that belongs to a place of the document: the one whose own place is the longest beginning of it. */
function controlAt(problem) {
  const place = problem.place.join(".");
  const controls = [...document.querySelectorAll("[data-place]")]
    .filter(({ dataset }) => place === dataset.place || place.startsWith(`${dataset.place}.`) || dataset.place.startsWith(`${place}.`));
  return controls.sort((a, b) => closeness(b, place) - closeness(a, place))[0];
}

const closeness = (control, place) => -Math.abs(control.dataset.place.length - place.length) - (control.dataset.place.length > place.length ? 1000 : 0);

function markProblems(shown) {
  for (const marked of document.querySelectorAll("[aria-invalid]")) marked.removeAttribute("aria-invalid");
  for (const problem of shown.problems) controlAt(problem)?.setAttribute("aria-invalid", "true");
}

function reveal(problem) {
  const [part, name] = problem.place;
  if (part === "cells" && has(view().cells, name)) {
    at("switches").open ||= problem.place.length > 3;
    show(name);
  }
  if (part === "layout" && Number.isInteger(name)) { state.depth = name; show(view().layout[name].cell); }
  const control = controlAt(problem);
  control?.scrollIntoView({ block: "center" });
  (control?.querySelector("[tabindex='0']") ?? control)?.focus();
}

// Files, and what is kept over a reload.
const drawer = () => `draft of ${state.start.file ?? ""}`;

function keep() {
  const views = state.views.slice(Math.max(0, state.now - KEPT), state.now + 1).map((kept) => kept.document);
  try {
    sessionStorage.setItem(drawer(), JSON.stringify({ drafts: views, seen: state.seen, saved: state.saved }));
  } catch { /* the storage is full or switched off: the page works without it */ }
}

async function begin() {
  state.start = await ask("start", {});
  Object.assign(state, { views: [state.start.view], now: 0, seen: state.start.seen, saved: state.start.seen ? state.start.view.text : null });
  let kept = null;
  try { kept = JSON.parse(sessionStorage.getItem(drawer())); } catch { /* nothing that can be read was kept */ }
  if (kept?.drafts?.length) {
    try {
      const views = [];
      for (const draft of kept.drafts) views.push(await ask("look", { draft }));
      if (views.at(-1).text !== state.start.view.text) {
        Object.assign(state, { views, now: views.length - 1, seen: kept.seen, saved: kept.saved });
        banner("This is the draft of this window from before it was loaded again.", false);
      }
    } catch { /* kept by another version: begin anew */ }
  }
  state.depth = 0;
  at("file").textContent = state.start.file ?? "no file: download the spec";
  fillChoices(at("origin"), [["", "an empty cell"]]);
  fillChoices(at("other"), [[" start", "the spec as it was at the start"], [" before", "the spec before the last change"]]);
  document.querySelector("main").hidden = false;
  attacks.begin();
  render();
}

function fillChoices(field, first) {
  field.replaceChildren(
    ...first.map(([value, text]) => h("option", { value }, text)),
    ...Object.entries(state.start.published).map(([label, names]) => h("optgroup", { label }, names.map((name) => h("option", { value: name }, name)))));
}

function open(body, said) {
  return inTurn(async () => {
    Object.assign(state, { chosen: null, depth: 0, cell: "" });
    accept(await ask("open", body));
    announce(`${said} ${verdictInWords()}`);
  });
}

/** Read a file that was picked, and let the same one be picked again. */
async function picked(field) {
  const [file] = field.files;
  field.value = "";
  if (file.size > 2 ** 22) throw new Error(`${file.name}: expected a spec, got a file of ${file.size} bytes`);
  return { text: await file.text(), file: file.name };
}

function download() {
  const link = h("a", { href: URL.createObjectURL(new Blob([view().text], { type: "application/json" })), download: `${view().document.name}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  state.downloaded = view().text;
  announce("The spec is downloaded.");
}

function save() {
  if (!state.start.file || at("save").disabled) return;
  inTurn(async () => {
    const { document: draft, text } = view();
    let answer = await ask("save", { draft, seen: state.seen });
    if (!answer.saved) {
      const question = `${state.start.file} has changed since this window read it, perhaps in another window. Replace it with what is shown here?`;
      if (!confirm(question)) return announce("Not saved.");
      answer = await ask("save", { draft, seen: answer.seen });
      if (!answer.saved) throw new Error(`${state.start.file} has changed once more; nothing was written`);
    }
    Object.assign(state, { seen: answer.seen, saved: text });
    banner("");
    render();
    announce(`Saved in ${state.start.file}.`);
  });
}

async function compare(other) {
  const answer = await ask("compare", { draft: view().document, other });
  const [mine, theirs] = answer.sides;
  const pair = [state.cell, has(theirs.cells, state.cell) ? state.cell : theirs.layout[0].cell];
  const switches = answer.sides.map((side, index) => new Set(side.cells[pair[index]].edges.flatMap((edge) => edge.on.map((operation) => `${edge.source} ${edge.target} ${operation}`))));
  at("comparison").replaceChildren(
    h("p", { className: answer.same_function ? "quiet" : "" }, answer.verdict),
    h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Two specs side by side" }, h("table", {},
      h("thead", {}, h("tr", {}, ["", ...answer.names.map((name, index) => `${name}${index ? "" : " (shown above)"}`), "change"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, answer.rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.name), row.texts.map((text) => h("td", {}, text)), h("td", {}, row.change)))))),
    h("div", { className: "beside" }, [mine, theirs].map((side, index) => h("figure", {},
      h("figcaption", {}, `${answer.names[index]}: ${pair[index]}`, h("span", { className: "hint" }, " strokes that the other lacks are bold")),
      h("div", { className: "canvas" }, drawCell(pair[index], side.cells[pair[index]], {
        colours: side.colours, marks: new Set([...switches[index]].filter((each) => !switches[1 - index].has(each))),
      }))))),
  );
}

function listen() {
  at("undo").addEventListener("click", () => go(-1));
  at("redo").addEventListener("click", () => go(1));
  at("download").addEventListener("click", download);
  at("save").addEventListener("click", save);
  at("name").addEventListener("change", () => edit({ kind: "rename", name: at("name").value }, "Renamed."));
  at("begin").addEventListener("submit", (event) => {
    event.preventDefault();
    open({ published: at("origin").value || null }, "Begun.");
  });
  at("own").addEventListener("change", () => inTurn(async () => {
    const body = await picked(at("own"));
    open(body, `${body.file} is opened.`);
  }));
  const withOther = (make) => inTurn(async () => { const other = await make(); await compare(other); announce("Compared."); });
  at("compare").addEventListener("submit", (event) => {
    event.preventDefault();
    const value = at("other").value;
    withOther(async () => value === " start" ? state.start.view.document
      : value === " before" ? state.views[Math.max(0, state.now - 1)].document
        : (await ask("open", { published: value })).document);
  });
  at("other-file").addEventListener("change", () => withOther(async () => (await ask("open", await picked(at("other-file")))).document));
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const key = event.key.toLowerCase(), typing = event.target.matches("input:not([type=checkbox], [type=file])");
    if (key === "s") save();
    else if (typing) return;
    else if (key === "z") go(event.shiftKey ? 1 : -1);
    else if (key === "y") go(1);
    else return;
    event.preventDefault();
  });
  addEventListener("beforeunload", (event) => {
    if (state.now > 0 && ![state.saved, state.downloaded].includes(view().text)) event.preventDefault();
  });
}

const attacks = listenToAttacks({ h, field: select, start: () => state.start });
listen();
begin().catch((error) => banner(error.message));
