// Begins.

const KINDS = { death: "Died", loss: "Lost", damage: "Damaged", slow: "Slow", error: "Error", end: "Ended", hot: "Time" };

function showFindings() {
  const list = document.getElementById("findingsList");
  for (const one of head.findings) {
    const item = node("li", "", one.kind), row = button("", () => goToFinding(one));
    row.append(node("span", KINDS[one.kind] || one.kind, "kind"), node("span", one.text));
    item.append(row);
    list.append(item);
  }
  document.getElementById("findings").hidden = !head.findings.length;
}

function goToFinding(one) {
  if (one.slice !== undefined) choose(one.slice);
  else if (one.begin !== undefined && one.begin !== null) {
    const end = Math.max(one.end === null || one.end === undefined ? one.begin : one.end, one.begin + 1), size = Math.max(end - one.begin, head.length / 200);
    look(one.begin - size, end + size);
    if (end - one.begin > 1) chooseRange(one.begin, end);
  } else if (one.name) showName(head.table.find((row) => row.name === one.name));
  else showTab("about");
}

function showHeader() {
  document.title = `${head.title} - ringbuf report`;
  document.getElementById("title").textContent = head.title;
  const who = new Set(head.threads.filter((one) => one.tid !== null).map((one) => one.number)).size;
  const found = [
    momentText(0).slice(0, 19), durationText(head.length), plural(head.slices, "span or call", "spans and calls"),
    plural(head.eventCounts.reduce((sum, one) => sum + one, 0), "event"), plural(who, "process", "processes"), plural(head.threads.filter((one) => one.tid !== null).length, "thread"),
  ];
  document.getElementById("facts").textContent = head.isEmpty ? "The trace is empty" : found.join("  \u00b7  ");
  document.getElementById("overviewLabel").textContent = head.leftOut ? `${plural(head.slices - head.leftOut, "slice")} of ${countText(head.slices)} one by one` : "the whole trace";
}

async function main() {
  try {
    await loadData();
  } catch (error) {
    document.getElementById("facts").textContent = `The data of this page cannot be read: ${error.message}`;
    return;
  }
  readTracks();
  closeOthers();
  readGraphs();
  readDensity();
  layOut();
  startTheme();
  showHeader();
  showFindings();
  startTabs();
  startPointer();
  startKeys();
  startSearch();
  showDetails();
  showAbout();
  lookAtAll();
  if (head.slices) showTab("summary");
  else showTab("about");
  addEventListener("resize", redraw);
  new ResizeObserver(redraw).observe(document.getElementById("timeline"));
  drawNow();
  // For tests, and for who looks with the browser's tools.
  window.ringbuf = { head, col, view, chosen, choose, chooseRange, look, pan, zoom, placeOf, drawNow, bands: () => bands, frames: () => frames };
  document.documentElement.dataset.ready = "true";
}

main();
