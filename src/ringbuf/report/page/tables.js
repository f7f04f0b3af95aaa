// Tabs; the table of names; what the trace is.

let shownTab = "details";
const TABS = ["details", "summary", "flame", "histogram", "about"];
const tabId = (name) => "tab" + name[0].toUpperCase() + name.slice(1);

function showTab(name) {
  const changed = shownTab !== name;
  shownTab = name;
  for (const one of TABS) {
    const tab = document.getElementById(tabId(one));
    tab.setAttribute("aria-selected", String(one === name));
    tab.tabIndex = one === name ? 0 : -1;
    document.getElementById(one).hidden = one !== name;
  }
  if (changed) refreshTab();
}

function refreshTab() {
  if (shownTab === "summary") showSummary();
  if (shownTab === "flame") showFlame();
  if (shownTab === "histogram") showHistogram();
}

function startTabs() {
  for (const name of TABS) document.getElementById(tabId(name)).addEventListener("click", () => showTab(name));
  document.getElementById("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.target.getAttribute("role") !== "tab") return;
    const next = TABS[(TABS.indexOf(shownTab) + step + TABS.length) % TABS.length];
    showTab(next);
    document.getElementById(tabId(next)).focus();
    event.preventDefault();
  });
  document.getElementById("clear").addEventListener("click", () => chooseRange(0, 0));
  document.getElementById("scope").textContent = "of the whole trace";
}

// ---- the table ----

const COLUMNS = ["count", "total", "self", "min", "p50", "p90", "p99", "max", "errors", "missing"];
const isTime = (name) => !["count", "errors", "missing", "name"].includes(name);
let order = "total";

function percentile(sorted, part) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(part * sorted.length) - 1))] : null;
}

function tableRows() {
  if (!chosen.range) return head.table.map((row) => ({ ...row, self: row.self_time }));
  const { rows } = measure();
  return rows.map((row) => {
    const sorted = row.durations.sort((a, b) => a - b);
    const known = Math.abs(row.count - sorted.length) < 0.5;
    return {
      name: head.names[row.name], where: head.places[row.name], number: row.name, count: row.count, total: row.total, self: row.self,
      min: known ? sorted[0] : null, p50: known ? percentile(sorted, 0.5) : null, p90: known ? percentile(sorted, 0.9) : null,
      p99: known ? percentile(sorted, 0.99) : null, max: sorted.length ? sorted[sorted.length - 1] : null, errors: 0, missing: 0,
    };
  });
}

function showSummary() {
  const rows = tableRows(), panel = document.getElementById("summary");
  const shown = COLUMNS.filter((name) => name === "count" || rows.some((row) => row[name]));
  const value = (row) => (order === "name" ? 0 : row[order] === null || row[order] === undefined ? -1 : row[order]);
  rows.sort((a, b) => value(b) - value(a) || (a.name < b.name ? -1 : 1));
  const table = node("table"), header = node("tr"), total = rows.reduce((sum, row) => sum + (row.self || 0), 0);
  for (const name of [...shown, "name"]) {
    const cell = node("th");
    cell.scope = "col";
    cell.setAttribute("aria-sort", name === order ? (name === "name" ? "ascending" : "descending") : "none");
    cell.append(button(name + (name === order ? " \u25be" : ""), () => {
      order = name;
      showSummary();
      document.querySelector("#summary th[aria-sort$=ending] button").focus();
    }));
    header.append(cell);
  }
  const body = node("tbody"), most = document.createElement("thead");
  most.append(header);
  for (const row of rows.slice(0, 500)) body.append(tableRow(row, shown, total));
  table.append(most, body);
  panel.replaceChildren(...(rows.length ? [table] : [node("p", "No span or call is in this part.", "soft")]), ...tableNotes(rows));
}

function tableRow(row, shown, total) {
  const line = node("tr");
  for (const name of shown) {
    const text = row[name] === null || row[name] === undefined ? "-" : isTime(name) ? durationText(row[name]) : countText(row[name]);
    const cell = node("td", text, name === "errors" && row[name] ? "bad" : "");
    if (name === "self" && total) {
      const bar = node("span", "", "bar");
      bar.style.width = `${Math.round((60 * row.self) / total)}px`;
      cell.prepend(bar);
    }
    line.append(cell);
  }
  const cell = node("td");
  cell.append(button(row.name, () => showName(row)), node("span", row.where ? ` ${row.where}` : "", "soft"));
  line.append(cell);
  return line;
}

function tableNotes(rows) {
  const notes = [];
  if (rows.length > 500) notes.push(`${rows.length - 500} more names`);
  if (!chosen.range && head.tableLeft) notes.push(`${head.tableLeft} more names are not in this page: ringbuf summary has all`);
  if (!chosen.range && head.tableError) notes.push(`percentiles are right to ${(100 * head.tableError).toFixed(1)} % of themselves`);
  if (chosen.range && measure().rough >= 1) notes.push(`${countText(measure().rough)} short ones are only counted in this page, by what most of them are near: their counts and times are estimates. ${command()} makes a page of this part.`);
  return notes.map((text) => node("p", text, "soft"));
}

// What makes a page of what is selected, with all of its slices.
function command() {
  const [begin, end] = chosen.range || [view.begin, view.end];
  const seconds = (ns) => (Math.max(0, ns) / 1e9).toFixed(9);
  return `ringbuf report ${shellQuoted(head.path)} --from +${seconds(begin)} --to +${seconds(end)} -o part.html`;
}

const shellQuoted = (text) => (/^[\w./+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

function numberOf(row) {
  if (row.number !== undefined) return row.number;
  return head.names.findIndex((name, i) => name === row.name && head.places[i] === row.where);
}

function showName(row) {
  const number = numberOf(row);
  histogramOf = number;
  highlight(new Set([number]));
  showTab("histogram");
  showHistogram();
}

function highlight(names) {
  chosen.names = names;
  redraw();
}

// ---- what the trace is ----

function showAbout() {
  const panel = document.getElementById("about");
  const left = node("div");
  left.append(node("h2", "The trace"), facts(mergedLines(head.about)));
  const right = node("div");
  const slices = head.slices ? `${head.slices - head.leftOut} of ${head.slices} spans and calls are in this page one by one: the widest, of each name the slowest, and all with errors or without an end, as far as there is room. The others are counted, by lane and by ${durationText(head.width)}.` : "There is no span and no call in it.";
  right.append(node("h2", "What this page has"), node("p", slices));
  const events = head.events.map((name, i) => [name, head.eventCounts[i]]).filter(([, count]) => count).sort((a, b) => b[1] - a[1]);
  if (events.length) right.append(node("h2", "Events"), facts(events.slice(0, 60).map(([name, count]) => [name, count])));
  const columns = node("div", "", "columns");
  columns.append(left, right);
  panel.replaceChildren(columns);
}

function mergedLines(lines) {
  const found = [];
  for (const [title, text] of lines) {
    if (title || !found.length) found.push([title, text]);
    else found[found.length - 1][1] += "\n" + text;
  }
  return found;
}
