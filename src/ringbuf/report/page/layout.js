// Bands: what lies one below the other, of all tracks.

let bands = [];
const ROW = 18;
const closed = new Set(); // processes whose threads are not shown

let tracks = []; // by number: rows of slices and cells, as [from, to) of the columns

function readTracks() {
  tracks = head.tracks.map(([thread, task, kind]) => ({ thread, task, kind, rows: [], cells: [], points: null, pointCells: null, n: 0 }));
  parts(col.track, col.row, (track, row, from, to) => {
    tracks[track].rows[row] = [from, to];
    tracks[track].n += to - from;
  });
  parts(col.cellTrack, col.cellRow, (track, row, from, to) => (tracks[track].cells[Math.max(0, row)] = [from, to]));
  parts(col.pointTrack, null, (track, _, from, to) => (tracks[track].points = [from, to]));
  parts(col.pointCellTrack, null, (track, _, from, to) => (tracks[track].pointCells = [from, to]));
  for (const track of tracks) {
    const first = track.rows[0] ? col.begin[track.rows[0][0]] : Infinity;
    track.first = track.cells[0] ? Math.min(first, col.cellBin[track.cells[0][0]] * head.width) : first;
    track.specials = [];
    for (const part of track.rows) for (let i = part ? part[0] : 0; part && i < part[1]; i++) if (isSpecial(i)) track.specials.push(i);
  }
}

// Neighbours that have the same track and row.
function parts(trackOf, rowOf, found) {
  const n = trackOf.length;
  for (let from = 0, i = 1; i <= n; i++) {
    if (i < n && trackOf[i] === trackOf[from] && (!rowOf || rowOf[i] === rowOf[from])) continue;
    found(trackOf[from], rowOf ? rowOf[from] : 0, from, i);
    from = i;
  }
}

// ---- who is there ----

// The others' lines are many, and mostly of no interest beside those of a program.
function closeOthers() {
  if (tracks.some((track) => typeof keyOf(head.threads[track.thread]) === "number")) closed.add("others");
}

// What its lines belong to: its process, all CPUs, or all threads of which nobody but the kernel has told.
const keyOf = (thread) => (thread.tid === null ? "cpus" : thread.pid === null ? "others" : thread.number);
const LAST = ["cpus", "others"]; // in this order, below the processes
const TITLES = { cpus: "CPUs", others: "Other threads" };

function processes() {
  const byPid = new Map();
  head.threads.forEach((thread, number) => {
    const own = tracks.filter((track) => track.thread === number);
    const key = keyOf(thread);
    if (!own.length) return;
    if (!byPid.has(key)) byPid.set(key, { key, title: "", pid: thread.pid, first: Infinity, last: -Infinity, threads: [] });
    const process = byPid.get(key);
    if (!process.title || thread.process) process.title = thread.title;
    process.first = Math.min(process.first, thread.first);
    process.last = Math.max(process.last, thread.last);
    process.threads.push({ thread, number, tracks: own });
  });
  const found = [...byPid.values()].sort((a, b) => LAST.indexOf(a.key) - LAST.indexOf(b.key) || a.first - b.first);
  for (const one of found) {
    one.title = TITLES[one.key] || one.title;
    one.deaths = head.deaths.filter((death) => death.processes.includes(one.key) && (death.isDeath || death.isEarly));
    const isMain = (entry) => entry.thread.tid === entry.thread.pid;
    one.threads.sort((a, b) => isMain(b) - isMain(a) || (a.thread.cpu || 0) - (b.thread.cpu || 0) || a.thread.first - b.thread.first);
  }
  return found;
}

function layOut() {
  bands = [];
  let y = 26; // below the ruler
  const add = (band) => {
    band.y = y;
    bands.push(band);
    y += band.h;
  };
  if (head.lost.places.length || head.damage.some((one) => one.begin !== null)) {
    add({ kind: "lost", h: 20, label: "lost", style: "lost", title: "Where records are missing" });
  }
  for (const process of processes()) {
    add({ kind: "process", h: 20, process, label: process.title, style: "process", title: process.title });
    if (closed.has(process.key)) continue;
    head.graphs.forEach((graph, number) => {
      if (graph.pid === null ? process.key === "cpus" : graph.pid === process.pid) add(graphBand(graph, number, process));
    });
    for (const entry of process.threads) addThread(add, process, entry);
  }
  const known = new Set(bands.filter((band) => band.kind === "graph").map((band) => band.number));
  head.graphs.forEach((graph, number) => known.has(number) || add(graphBand(graph, number, null)));
}

function graphBand(graph, number, process) {
  const unit = graph.unit ? ` (${graph.unit})` : "";
  return { kind: "graph", h: 44, number, process, label: graph.name + unit, style: "inner", title: graph.name + unit };
}

function addThread(add, process, { thread, number, tracks: own }) {
  const name = thread.tid === null ? thread.text : thread.name || (thread.tid === thread.pid ? "main thread" : "thread");
  const title = thread.tid === null ? name : `${name} ${thread.tid}`;
  const order = own.slice().sort((a, b) => (a.task !== 0) - (b.task !== 0) || (a.kind ? a.first : -1) - (b.kind ? b.first : -1) || a.kind - b.kind);
  const hasTasks = order.some((track) => track.task !== 0), key = `thread ${number}`;
  if (hasTasks) add({ kind: "thread", h: 20, process, key, label: title, style: "thread", title });
  let isFirst = !hasTasks;
  for (const track of order) {
    if (track.task !== 0 && closed.has(key)) continue;
    const task = track.task > 0 ? head.texts[track.task] : track.task < 0 ? "more tasks" : "";
    const rows = Math.max(track.rows.length, track.cells.length, 1);
    const rowHeight = track.kind === 0 ? 16 : rows <= 24 ? ROW : rows <= 80 ? 9 : 4;
    add({
      kind: track.kind === 0 ? "points" : "slices", h: rows * rowHeight + 6, rowHeight, rows, track, process, thread,
      label: task || (isFirst ? title : ""), style: task ? "inner task" : "inner", title: task ? `${title}, ${task}` : title,
    });
    isFirst = false;
  }
}

const bandsHeight = () => (bands.length ? bands[bands.length - 1].y + bands[bands.length - 1].h : 0);

function bandAt(y) {
  return bands.find((band) => y >= band.y && y < band.y + band.h);
}

const bandOfTrack = (track) => bands.find((band) => band.track === tracks[track]);

// Scroll such that a slice's row is seen.
function revealRow(track, row) {
  let band = bandOfTrack(track);
  if (!band) {
    const thread = head.threads[tracks[track].thread];
    closed.delete(keyOf(thread));
    closed.delete(`thread ${tracks[track].thread}`);
    layOut();
    band = bandOfTrack(track);
  }
  if (!band) return;
  const y = band.y + 3 + row * band.rowHeight;
  if (y < view.top + 40 || y > view.top + view.height - 40) scroll(y - view.height / 2 - view.top);
}

// ---- the labels beside the canvas: as elements, so that they can be read and focused ----

function showLabels() {
  const gutter = document.getElementById("gutter");
  const found = [];
  for (const band of bands) {
    if (!band.label || band.y + band.h < view.top || band.y > view.top + view.height) continue;
    const isProcess = band.kind === "process", key = isProcess ? band.process.key : band.key;
    const element = document.createElement(key === undefined ? "div" : "button");
    element.className = `label ${band.style}${isProcess ? endOf(band.process) : ""}`;
    element.style.top = `${band.y - view.top}px`;
    element.style.height = `${band.h}px`;
    element.textContent = band.label;
    element.title = band.title;
    if (key !== undefined) {
      element.setAttribute("aria-expanded", String(!closed.has(key)));
      element.addEventListener("click", () => toggle(key));
    }
    const item = document.createElement("div");
    item.setAttribute("role", "listitem");
    item.append(element);
    found.push(item);
  }
  const cover = document.createElement("div");
  cover.setAttribute("role", "presentation");
  cover.style.cssText = "position:absolute;left:0;right:0;top:0;height:26px;background:var(--panel)";
  gutter.replaceChildren(...found, cover);
}

function endOf(process) {
  if (!process.deaths.length) return "";
  return isDeath(process) ? " dead" : " ended";
}

const isDeath = (process) => process.deaths.some((one) => one.isDeath);

function toggle(key) {
  if (closed.has(key)) closed.delete(key);
  else closed.add(key);
  layOut();
  scroll(0);
  drawNow(); // the labels are new: the one that was pressed has the focus again
  const band = bands.find((one) => (one.kind === "process" ? one.process.key : one.key) === key);
  for (const label of document.querySelectorAll("#gutter button")) if (band && label.textContent === band.label) label.focus();
}
