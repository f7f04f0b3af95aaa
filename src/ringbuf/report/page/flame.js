// The flame graph: self times by path, of the whole trace or of a range. Of calls or of spans, as the one may lie in the other.

let flameOf = null; // "calls" or "spans"
let flameRoot = 0;

function flameSums() {
  if (chosen.range) return measure().paths;
  const sums = new Map();
  for (let i = 0; i < col.flamePath.length; i++) sums.set(col.flamePath[i], col.flameSelf[i]);
  return sums;
}

// Times of paths with all below them; paths come after those that they go on from.
function flameTree() {
  const n = col.pathAbove.length, total = new Float64Array(n), children = new Map();
  for (const [path, self] of flameSums()) total[path] += self;
  for (let path = n - 1; path > 0; path--) total[col.pathAbove[path]] += total[path];
  for (let path = 1; path < n; path++) {
    if (!(total[path] > 0)) continue;
    const above = col.pathAbove[path];
    if (!children.has(above)) children.set(above, []);
    children.get(above).push(path);
  }
  return { total, children };
}

function showFlame() {
  const panel = document.getElementById("flame"), tree = flameTree();
  const roots = tree.children.get(0) || [];
  const sums = { calls: 0, spans: 0 };
  for (const path of roots) sums[isCall(pathName(path)) ? "calls" : "spans"] += tree.total[path];
  if (!flameOf) flameOf = sums.calls > 0 ? "calls" : "spans";
  const tools = node("p");
  for (const one of ["calls", "spans"]) {
    if (!sums[one]) continue;
    const choice = button(one, () => {
      [flameOf, flameRoot] = [one, 0];
      showFlame();
    });
    choice.setAttribute("aria-pressed", String(flameOf === one));
    tools.append(choice, " ");
  }
  const graph = node("div");
  graph.id = "flameGraph";
  panel.replaceChildren(tools, graph);
  if (flameRoot && !(tree.total[flameRoot] > 0)) flameRoot = 0;
  const shown = flameRoot ? [flameRoot] : roots.filter((path) => isCall(pathName(path)) === (flameOf === "calls"));
  const all = shown.reduce((sum, path) => sum + tree.total[path], 0);
  if (!all) {
    graph.append(node("p", "No time was spent in spans or calls here.", "soft"));
    return;
  }
  if (flameRoot) tools.append(button("Out again", () => {
    flameRoot = 0;
    showFlame();
  }));
  tools.append(node("span", ` ${durationText(all)} in all`, "soft"));
  drawFlame(graph, shown, all, tree);
}

function drawFlame(graph, shown, all, { total, children }) {
  const width = graph.clientWidth || 900, least = 2;
  let deepest = 0, n = 0;
  const place = (paths, x, depth) => {
    for (const path of paths.sort((a, b) => total[b] - total[a])) {
      const size = (total[path] / all) * width;
      if (size < least || n > 3000 || depth > 200) continue;
      n++;
      deepest = Math.max(deepest, depth);
      graph.append(flameBox(path, x, depth, size, width, total, all));
      place((children.get(path) || []).slice(), x, depth + 1);
      x += size;
    }
  };
  place(shown.slice(), 0, 0);
  graph.style.height = `${(deepest + 1) * 19 + 4}px`;
}

function flameBox(path, x, depth, size, width, total, all) {
  const name = pathName(path), text = head.names[name];
  const part = `${durationText(total[path])}, ${((100 * total[path]) / all).toFixed(1)} %`;
  const box = button(size > 30 ? text : "", () => {
    flameRoot = flameRoot === path ? 0 : path;
    highlight(new Set([name]));
    showFlame();
  });
  Object.assign(box.style, { left: `${(100 * x) / width}%`, width: `${(100 * size) / width}%`, top: `${depth * 19}px`, background: fills[name], color: inkOf });
  box.title = `${text}: ${part}${head.places[name] ? "\n" + head.places[name] : ""}`;
  box.setAttribute("aria-label", `${text}, ${part}`);
  return box;
}
