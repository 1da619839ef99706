// An attack that is watched: the page sends what is wanted, and shows the messages as they come, a line of JSON each.
const SVG = "http://www.w3.org/2000/svg";
const at = (id) => document.getElementById(id);
const WIDTH = 720, HEIGHT = 190, LEFT = 12, MOST_POINTS = 2000;

/** Make the section work. h: makes an element; field: a labelled choice; start: returns what the server said at first.
 *
 * Returns {begin, shown}: to be called once the page has begun, and with each view of the spec.
 */
export function listenToAttacks({ h, field, start }) {
  const state = { key: null, hash: null, model: null, kind: "pgd", running: null, margins: [], total: 1, query: 0 };
  const attack = () => start().attacks.find(({ kind }) => kind === state.kind);

  function begin() {
    const models = start().models;
    state.model ??= models.find(({ name }) => name.endsWith(".digits"))?.name ?? models[0].name;
    if (start().named) state.model = models[0].name;
    renderWhat();
    renderHow();
  }

  function shown(view) {
    state.hash = view.hash;
    if (state.model) renderWhat();
  }

  function renderWhat() {
    const { models, attacks } = start();
    const own = ({ spec }) => spec && spec === state.hash ? " (the spec shown)" : "";
    const labelled = (parts) => h("div", { className: "field" }, ...parts);
    const chosen = models.find(({ name }) => name === state.model);
    at("attack-what").replaceChildren(
      labelled(field("model", models.map((model) => [model.name, model.name + own(model)]), state.model, { key: "attacked model" },
        (model) => { state.model = model; renderWhat(); })),
      labelled(field("attack", attacks.map(({ kind }) => [kind, kind]), state.kind, { key: "attack kind" },
        (kind) => { state.kind = kind; renderWhat(); renderHow(); })),
      h("p", { className: "hint" }, attack().summary, chosen.spec && chosen.spec !== state.hash ? ` The weights of ${chosen.name} are those of its own spec, not of what is drawn above.` : ""),
    );
  }

  function renderHow() {
    const inputs = Object.entries(attack().parameters).map(([key, schema]) => parameter(key, schema));
    const eps = attack().norm === "l2" ? "0.5" : "8/255";
    at("attack-how").replaceChildren(
      text("eps", "eps", eps, { required: true }),
      ...inputs.filter(Boolean),
      text("seed", "seed", "0", { type: "number", min: 0, step: 1, required: true }),
      text("label", "label", "", { type: "number", min: 0, step: 1, placeholder: "its own" }),
    );
  }

  function text(label, key, value, extra = {}) {
    const id = `attack-${key}`;
    return h("div", { className: "field" }, h("label", { htmlFor: id }, label), h("input", { id, name: key, value, autocomplete: "off", ...extra }));
  }

  function parameter(key, stated) {
    const schema = entered(stated);
    if (schema.const !== undefined) return null;
    const label = key.replaceAll("_", " ");
    if (schema.enum) return h("div", { className: "field" }, ...field(label, schema.enum.map((value) => [value, value]), schema.default, { key: `attack ${key}`, name: `parameter ${key}` }, () => {}));
    const list = schema.type === "array";
    return text(label, `parameter ${key}`.replaceAll(" ", "-"), list ? (schema.default ?? []).join(", ") : String(schema.default ?? ""), {
      name: `parameter ${key}`, type: isNumber(schema) ? "number" : "text", step: schema.type === "integer" ? 1 : "any",
      required: !list && !schema.optional, placeholder: list ? (schema.items?.enum ?? []).join(", ") : schema.optional ? "none" : "",
    });
  }

  /** Return what the form asks for. */
  function asked() {
    const form = new FormData(at("attack")), parameters = { kind: state.kind };
    for (const [name, value] of form) {
      if (!name.startsWith("parameter ")) continue;
      const key = name.slice("parameter ".length);
      parameters[key] = given(value, entered(attack().parameters[key]));
    }
    return {
      model: state.model, pictures: state.key, index: Number(form.get("picture")), eps: form.get("eps"), seed: Number(form.get("seed")),
      label: form.get("label") === "" ? null : Number(form.get("label")), attack: parameters,
    };
  }

  /** Have pictures of one's own, or the digits, shown to choose from. */
  async function offer(body, name) {
    say("Loading the pictures …");
    try {
      const which = body ? `?name=${encodeURIComponent(name)}` : "";
      const response = await fetch(`/api/pictures${which}`, { method: "POST", body });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
      state.key = answer.key;
      at("thumbnails").replaceChildren(...answer.thumbnails.map(({ index, png, label }) => h("label", {},
        h("input", { type: "radio", name: "picture", value: index, checked: index === 0, "aria-label": `${answer.name} ${index}${label === null ? "" : `, label ${label}`}` }),
        h("img", { src: png, alt: "" }), label ?? answer.name)));
      at("attack-start").disabled = state.running !== null;
      say("");
    } catch (error) {
      say(error instanceof TypeError ? "The server does not answer." : error.message);
    }
  }

  function say(words, className = "") {
    at("attack-verdict").textContent = words;
    at("attack-verdict").className = className;
  }

  async function run() {
    state.running = new AbortController();
    Object.assign(state, { margins: [], query: 0 });
    at("attack-start").disabled = true;
    at("attack-stop").disabled = false;
    at("attack-progress").removeAttribute("value");
    at("attack-pictures").replaceChildren();
    at("attack-now").textContent = "";
    at("attack-chart").hidden = true;
    let ended = false;
    try {
      const response = await fetch("/api/attack", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked()), signal: state.running.signal,
      });
      if (!response.ok) throw new Error((await response.json()).error);
      for await (const message of messages(response.body)) {
        ended = show(message);
        if (ended) break;
      }
      if (!ended) say("The server went away. Start it again with the same command, and the attack once more.");
    } catch (error) {
      if (error.name === "AbortError") say(`Stopped after query ${state.query}.`);
      else say(error instanceof TypeError ? "The server does not answer. Start it again with the same command, and the attack once more." : error.message);
    }
    state.running = null;
    at("attack-start").disabled = false;
    at("attack-stop").disabled = true;
    if (!at("attack-progress").hasAttribute("value")) at("attack-progress").value = 0;
  }

  /** Show a message; return whether it is the last one. */
  function show(message) {
    if (message.kind === "loading") say(message.text);
    if (message.kind === "error") say(message.text);
    if (message.kind === "clean") {
      state.total = message.total;
      say("Attacking …");
    }
    if (message.kind === "query") {
      state.query = message.query;
      at("attack-progress").max = state.total;
      at("attack-progress").value = Math.min(message.query, state.total);
    }
    if ("margin" in message) {
      if (message.kind !== "end") state.margins.push(message.margin);
      at("attack-now").textContent = `${message.kind === "query" ? `${message.query} of at most ${state.total}` : message.kind === "clean" ? "Clean" : "At the end"}: ${message.text}`;
      drawLater();
    }
    if (message.png && message.kind === "query") {
      const picture = at("attack-live") ?? at("attack-pictures").appendChild(h("figure", {}, h("img", { id: "attack-live", alt: "The image now" }), h("figcaption", {}, "now"))).firstChild;
      picture.src = message.png;
    }
    if (message.kind === "end") {
      at("attack-progress").value = at("attack-progress").max;
      say(message.verdict, message.fooled ? "fooled" : "");
      const figure = (source, alt, caption) => h("figure", {}, h("img", { src: source, alt }), h("figcaption", {}, caption));
      at("attack-pictures").replaceChildren(
        figure(message.clean, "The clean image", "clean"),
        figure(message.difference, `The difference, enlarged ${message.factor} times`, `difference × ${message.factor}`),
        figure(message.png, "The image at the end", "at the end"));
    }
    return ["end", "error", "stopped"].includes(message.kind);
  }

  let waiting = false;
  function drawLater() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  /** Draw the margin over the queries; above zero the model is fooled. */
  function draw() {
    const every = Math.ceil(state.margins.length / MOST_POINTS);
    const points = state.margins.map((margin, index) => [index, margin]).filter(([index, margin]) => margin !== null && (index % every === 0 || index === state.margins.length - 1));
    at("attack-chart").hidden = !points.length;
    if (!points.length) return;
    const values = points.map(([, margin]) => margin);
    const low = Math.min(0, ...values), high = Math.max(0, ...values), room = (high - low || 1) * 0.12;
    const last = Math.max(1, state.margins.length - 1);
    const x = (index) => LEFT + (WIDTH - LEFT - 20) * index / last;
    const y = (margin) => HEIGHT - HEIGHT * (margin - low + room) / (high - low + 2 * room);
    const part = (tag, attributes, words = "") => {
      const element = document.createElementNS(SVG, tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      element.textContent = words;
      return element;
    };
    const chart = part("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "The margin over the queries of the attack; above zero the model is fooled" });
    const [end, now] = points.at(-1);
    chart.append(
      part("rect", { class: "above", x: 0, y: 0, width: WIDTH, height: y(0) }),
      part("line", { class: "zero", x1: 0, x2: WIDTH, y1: y(0), y2: y(0) }),
      part("text", { x: LEFT, y: y(0) - 5 }, "fooled above this line"),
      part("text", { x: LEFT, y: HEIGHT - 6 }, "margin, query by query"),
      part("polyline", { class: "margin", points: points.map(([index, margin]) => `${x(index)},${y(margin)}`).join(" ") }),
      part("circle", { class: "latest", cx: x(end), cy: y(now), r: 4 }));
    at("attack-chart").replaceChildren(chart);
  }

  at("watch").addEventListener("toggle", () => { if (at("watch").open && !state.key) offer(null, ""); });
  at("digits").addEventListener("click", () => offer(null, ""));
  at("picture").addEventListener("change", () => {
    const [file] = at("picture").files;
    at("picture").value = "";
    offer(file, file.name);
  });
  at("attack").addEventListener("submit", (event) => { event.preventDefault(); if (!state.running) run(); });
  at("attack-stop").addEventListener("click", () => state.running?.abort());
  return { begin, shown };
}

/** Return the schema of what is entered for a parameter: of the value, if there may be none. */
function entered(schema) {
  return schema.anyOf ? { ...schema.anyOf.find(({ type }) => type !== "null"), default: schema.default, optional: true } : schema;
}

function isNumber({ type }) {
  return type === "integer" || type === "number";
}

/** Return the value that a field's text stands for. */
function given(text, schema) {
  if (schema.type === "array") return text.split(",").map((part) => part.trim()).filter(Boolean);
  if (schema.optional && text === "") return null;
  return isNumber(schema) ? Number(text) : text;
}

/** Yield the lines of a stream as JSON. */
async function* messages(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}
