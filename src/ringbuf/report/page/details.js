// The panel about what was clicked. Texts are set as texts: nothing that a trace says is markup.

function node(kind, text = "", className = "") {
  const element = document.createElement(kind);
  if (text !== "") element.textContent = text;
  if (className) element.className = className;
  return element;
}

function button(text, action, className = "") {
  const element = node("button", text, className);
  element.addEventListener("click", action);
  return element;
}

function facts(pairs) {
  const list = node("dl", "", "facts");
  for (const [title, text, className] of pairs) {
    if (text === "" || text === null || text === undefined) continue;
    list.append(node("dt", title), node("dd", String(text), className));
  }
  return list;
}

const WHY = {
  lost: "lost: records were lost, and it may have been among them",
  before: "older than the trace, or overwritten",
  inherited: "in the process that forked this one",
  open: "it had not ended when the trace did",
  died: "its process died, or was replaced by another program",
  resumed: "it goes on here, after its task or greenlet had waited",
};

function showDetails() {
  const panel = document.getElementById("details");
  if (chosen.slice >= 0) panel.replaceChildren(...sliceDetails(chosen.slice));
  else if (chosen.point >= 0) panel.replaceChildren(...pointDetails(chosen.point));
  else panel.replaceChildren(node("p", "Click a slice or an event, or use n and p, to see its fields, its parent and its children.", "soft hint"));
}

function deathOf(slice) {
  const thread = threadOf(slice);
  return head.deaths.find((death) => death.processes.includes(thread.number));
}

function endWords(slice) {
  const why = missingEnd(slice);
  if (!why) return sinceText(col.end[slice]);
  const death = isUnended(slice) && deathOf(slice);
  if (death) return `not there: its process died${death.last === null ? "" : " at " + sinceText(death.last)}`;
  return `not there: ${WHY[why] || why}`;
}

function sliceDetails(slice) {
  const thread = threadOf(slice), task = head.texts[col.task[slice]], place = head.places[col.name[slice]];
  const unknown = missingBegin(slice) === "lost" || missingEnd(slice) === "lost";
  const left = node("div"), title = node("h2", nameOf(slice));
  left.append(title, facts([
    ["kind", KIND_WORDS[head.kinds[col.name[slice]]]],
    ["takes", unknown ? `unknown (${durationText(col.duration[slice])} as far as the trace tells)` : durationText(col.duration[slice]) + (isUnended(slice) ? " or more" : "")],
    ["of it by itself", `${durationText(col.self[slice])} (${Math.round((100 * col.self[slice]) / Math.max(1, col.duration[slice]))} %)`],
    ["begins", missingBegin(slice) ? `not there: ${WHY[missingBegin(slice)]}` : `${sinceText(col.begin[slice])}, at ${momentText(col.begin[slice])}`, isUnbegun(slice) ? "bad" : ""],
    ["ends", endWords(slice), isUnended(slice) ? "bad" : ""],
    ["error", head.details.errors[slice] || head.texts[col.error[slice]], "bad"],
    ["thread", thread.text],
    ["ends in", col.endThread[slice] === col.thread[slice] ? "" : head.threads[col.endThread[slice]].text],
    ["task", task],
    ["function in", place],
    ["usual", usual(slice)],
  ]));
  const tools = node("p");
  tools.append(
    button("Fit (f)", () => fit(col.begin[slice], col.end[slice])), " ",
    button("Select its time (s)", () => chooseRange(col.begin[slice], col.end[slice])), " ",
    button("All of this name", () => highlight(new Set([col.name[slice]]))),
  );
  left.append(tools);
  const right = node("div"), fields = Object.entries(fieldsOf(slice));
  if (fields.length) right.append(node("h2", "Fields"), facts(fields.map(([name, value]) => [name, value === null ? "nothing" : value])));
  right.append(...family(slice));
  const columns = node("div", "", "columns");
  columns.append(left, right);
  return [columns];
}

function usual(slice) {
  const row = head.table.find((one) => one.name === nameOf(slice) && one.where === head.places[col.name[slice]]);
  if (!row || row.p50 === null || row.count < 2) return "";
  return `${durationText(row.p50)} (p50), ${durationText(row.p99)} (p99), ${durationText(row.max)} (longest of ${row.count})`;
}

function family(slice) {
  const found = [], parent = col.parent[slice];
  if (parent >= 0) {
    found.push(node("h2", "Within"), links([parent], slice));
  }
  const children = childrenOf(slice).sort((a, b) => col.duration[b] - col.duration[a]);
  if (children.length) found.push(node("h2", `Directly within it (${children.length})`), links(children.slice(0, 40), slice));
  const others = linksOf(slice).map(([from, to]) => (from === slice ? to : from));
  if (others.length) found.push(node("h2", "Linked with"), links(others, slice));
  return found;
}

function links(slices, from) {
  const list = node("ul", "", "links");
  for (const slice of slices) {
    const where = col.track[slice] === col.track[from] ? "" : `, ${threadOf(slice).text}`;
    const item = node("li");
    item.append(button(`${nameOf(slice)} ${durationText(col.duration[slice])}${where}${isUnended(slice) ? ", no end" : ""}`, () => choose(slice)));
    list.append(item);
  }
  return list;
}

function pointDetails(point) {
  const track = tracks[col.pointTrack[point]], fields = Object.entries(head.details.points[point] || {});
  const found = [node("h2", head.events[col.pointEvent[point]]), facts([
    ["at", `${sinceText(col.pointTime[point])}, ${momentText(col.pointTime[point])}`],
    ["thread", head.threads[track.thread].text],
    ...fields.map(([name, value]) => [name, value === null ? "nothing" : value]),
  ])];
  return found;
}
