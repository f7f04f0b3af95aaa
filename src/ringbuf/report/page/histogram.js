// How long those of one name took: a bar for each class of durations, and the longest ones by themselves.

let histogramOf = -1;

function showHistogram() {
  const panel = document.getElementById("histogram"), known = Object.keys(head.histograms).map(Number);
  if (!known.length) {
    panel.replaceChildren(node("p", "There is no span and no call to measure.", "soft"));
    return;
  }
  if (!known.includes(histogramOf)) histogramOf = numberOf(head.table.find((row) => known.includes(numberOf(row))) || head.table[0]);
  const choice = node("select");
  choice.setAttribute("aria-label", "Name");
  known.sort((a, b) => (head.names[a] < head.names[b] ? -1 : 1));
  for (const number of known) {
    const option = node("option", head.names[number] + (head.places[number] ? ` (${head.places[number]})` : ""));
    option.value = String(number);
    option.selected = number === histogramOf;
    choice.append(option);
  }
  choice.addEventListener("change", () => {
    histogramOf = Number(choice.value);
    highlight(new Set([histogramOf]));
    showHistogram();
    document.querySelector("#histogram select").focus();
  });
  const row = head.table.find((one) => numberOf(one) === histogramOf), words = node("span", "", "soft");
  if (row) words.textContent = `  ${countText(row.count)} times; p50 ${durationText(row.p50 || 0)}, p90 ${durationText(row.p90 || 0)}, p99 ${durationText(row.p99 || 0)}, longest ${durationText(row.max || 0)}`;
  panel.replaceChildren(choice, words, ...bars(), ...slowest());
}

const classBegin = (number) => 2 ** (number / head.classes);

function bars() {
  const pairs = head.histograms[histogramOf] || [], counts = new Map();
  for (let i = 0; i < pairs.length; i += 2) counts.set(pairs[i], pairs[i + 1]);
  const first = Math.max(0, Math.min(...counts.keys()) - 1), last = Math.max(...counts.keys()) + 1, most = Math.max(...counts.values());
  const chart = node("div"), axis = node("div"), said = [];
  chart.id = "bars";
  axis.id = "axis";
  for (let number = first; number <= last; number++) {
    const count = counts.get(number) || 0, bar = node("div", "", count ? "" : "empty");
    const text = `${count} from ${durationText(classBegin(number))} to ${durationText(classBegin(number + 1))}`;
    bar.style.height = count ? `${Math.max(2, (100 * count) / most)}%` : "0";
    bar.title = text;
    if (count) said.push(text);
    chart.append(bar);
  }
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", `Durations of ${head.names[histogramOf]}: ${said.join("; ")}`);
  for (let i = 0; i <= 4; i++) axis.append(node("span", durationText(classBegin(first + ((last + 1 - first) * i) / 4))));
  return [chart, axis];
}

function slowest() {
  const some = [];
  for (let i = 0; i < col.name.length; i++) if (col.name[i] === histogramOf) some.push(i);
  some.sort((a, b) => col.duration[b] - col.duration[a]);
  const list = node("ul", "", "links");
  for (const slice of some.slice(0, 12)) {
    const item = node("li"), fields = Object.entries(fieldsOf(slice)).map(([name, value]) => `${name}=${value}`).join(" ");
    item.append(button(`${durationText(col.duration[slice])} at ${sinceText(col.begin[slice])}, ${threadOf(slice).text} ${fields}`, () => choose(slice)));
    list.append(item);
  }
  return some.length ? [node("h2", "The longest"), list] : [];
}
