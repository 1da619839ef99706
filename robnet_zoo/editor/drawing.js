// A cell as an SVG drawing: nodes in a row, an arc for each edge, a stroke for each operation.
// What is drawn, and in which colour, comes from the server; only positions are chosen here.
const SVG = "http://www.w3.org/2000/svg";
const GAP = 92, RADIUS = 19, MIDDLE = 0;

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Return the height of an edge's arc: edges of even sources are drawn above the nodes, others below. */
function rise(edge) {
  const span = edge.target - edge.source;
  return span === 1 ? 0 : (edge.source % 2 ? -1 : 1) * (14 + 25 * (span - 1));
}

/** Return the path of an operation's stroke. shift: how far it lies from the middle of the edge. */
function path(edge, shift) {
  const from = edge.source * GAP, to = edge.target * GAP, height = rise(edge);
  if (!height) return `M ${from + RADIUS} ${MIDDLE + shift} L ${to - RADIUS - 7} ${MIDDLE + shift}`;
  const way = Math.sign(height), outer = RADIUS * 0.78, top = MIDDLE - (height * 1.28 + way * (shift + 10));
  const lean = (to - from) * 0.2, start = MIDDLE - way * (outer + 1), end = MIDDLE - way * (outer + 6);
  return `M ${from + outer * 0.8} ${start} C ${from + lean} ${top}, ${to - lean} ${top}, ${to - outer * 0.8 - 3} ${end}`;
}

/** Return the point at which an arrow ends, and its direction in degrees. */
function tip(edge, shift) {
  const to = edge.target * GAP, height = rise(edge);
  if (!height) return [to - RADIUS - 1, MIDDLE + shift, 0];
  const way = Math.sign(height), outer = RADIUS * 0.78;
  return [to - outer * 0.8, MIDDLE - way * (outer + 1), way * 58];
}

/** Return a drawing of a cell as the server describes it.
 *
 * colours: by operation. chosen: {edge: [source, target]} or {node} or null. choose: called with what was chosen, or
 * null for a drawing to look at. marks: a set of `source target operation` to be emphasised, or null. place: of the
 * cell in the document.
 */
export function drawCell(name, cell, { colours, chosen = null, choose = null, marks = null, place = null }) {
  const heights = cell.edges.map(rise);
  const above = Math.max(40, ...heights) + 30, below = Math.max(40, ...heights.map((height) => -height)) + 30;
  const width = (cell.nodes.length - 1) * GAP + 2 * RADIUS + 24;
  const box = [-RADIUS - 12, -above, width, above + below];
  const drawing = svg("svg", { viewBox: box.join(" "), class: "cell", role: choose ? "group" : "img" });
  drawing.style.setProperty("--width", `${width}px`);
  if (place) drawing.dataset.place = place;
  const on = cell.edges.filter((edge) => edge.on.length);
  drawing.setAttribute("aria-label", choose
    ? `Cell ${name}: its edges and nodes`
    : `Cell ${name}: ${on.map((edge) => `${edge.source} to ${edge.target} ${edge.on.join(" and ")}`).join("; ") || "no edges"}`);
  const items = [];
  const order = [...cell.edges].sort((a, b) => (b.target - b.source) - (a.target - a.source) || a.on.length - b.on.length);
  for (const edge of order) {
    const isChosen = chosen?.edge?.[0] === edge.source && chosen?.edge?.[1] === edge.target;
    const group = svg("g", { class: `edge${edge.on.length ? "" : " empty"}${edge.live ? "" : " dead"}${isChosen ? " chosen" : ""}` });
    group.append(svg("path", { class: "hit", d: path(edge, 0) }));
    if (!edge.on.length) group.append(svg("path", { class: "stroke", d: path(edge, 0) }));
    edge.on.forEach((operation, index) => {
      const shift = (index - (edge.on.length - 1) / 2) * 7;
      const emphasised = marks?.has(`${edge.source} ${edge.target} ${operation}`);
      const stroke = svg("path", { class: `stroke${emphasised ? " mark" : ""}`, d: path(edge, shift) });
      const [x, y, turn] = tip(edge, shift);
      const head = svg("path", { class: "head", d: "M 0 0 L -9 -4 L -9 4 Z", transform: `translate(${x} ${y}) rotate(${turn})` });
      for (const part of [stroke, head]) part.style.setProperty("--op", colours[operation]);
      group.append(stroke, head);
    });
    const label = `Edge ${edge.source} to ${edge.target}: ${edge.on.join(", ") || "nothing"}${edge.live ? "" : ", does not reach the output"}`;
    items.push([edge.target * 100 + edge.source, group, label, { edge: [edge.source, edge.target] }, isChosen]);
    drawing.append(group);
  }
  for (const node of cell.nodes) {
    const isChosen = chosen?.node === node.node;
    const role = node.input ? ["before", "last"][node.node] : node.zero ? "zero" : "";
    const kind = node.input ? " input" : node.output ? " output" : "";
    const group = svg("g", { class: `node${kind}${node.live || node.input ? "" : " dead"}${isChosen ? " chosen" : ""}`, transform: `translate(${node.node * GAP} ${MIDDLE})` });
    group.append(svg("circle", { r: RADIUS }), svg("text", { dy: role ? -1 : 5 }, String(node.node)));
    if (role) group.append(svg("text", { class: "role", dy: 10 }, role));
    drawing.append(group);
    if (!node.input) {
      const label = `Node ${node.node}${node.zero ? ", zero as no input reaches it" : ""}${node.output ? ", in the output" : ""}${node.live ? "" : ", does not reach the output"}`;
      items.push([node.node * 100 + 50, group, label, { node: node.node }, isChosen]);
    }
  }
  if (choose) listen(drawing, items.sort((a, b) => a[0] - b[0]), choose);
  return drawing;
}

/** Make edges and nodes buttons, one of which the Tab key reaches; arrow keys move between them. */
function listen(drawing, items, choose) {
  const first = Math.max(0, items.findIndex((item) => item[4]));
  items.forEach(([, group, label, what, isChosen], index) => {
    const attributes = { role: "button", tabindex: index === first ? 0 : -1, "aria-label": label, "aria-pressed": isChosen, "data-key": what.edge ? `edge ${what.edge.join(" ")}` : `node ${what.node}` };
    for (const [key, value] of Object.entries(attributes)) group.setAttribute(key, value);
    group.addEventListener("click", () => choose(what));
    group.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") choose(what);
      else {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        const to = event.key === "Home" ? 0 : event.key === "End" ? items.length - 1 : index + step;
        if (!items[to]) return;
        items.forEach((item, other) => item[1].setAttribute("tabindex", other === to ? 0 : -1));
        items[to][1].focus();
      }
      event.preventDefault();
    });
  });
}
