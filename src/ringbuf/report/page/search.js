// Search: names, tasks, fields, errors and messages.

let results = [], resultAt = -1;

function search(text) {
  const wanted = text.toLowerCase();
  results = [];
  resultAt = -1;
  if (!wanted) return;
  const names = new Set();
  head.names.forEach((name, i) => name.toLowerCase().includes(wanted) && names.add(i));
  const fields = new Map();
  const matches = (entries) => entries.find(([name, value]) => String(value).toLowerCase().includes(wanted) || name.toLowerCase() === wanted);
  for (const [slice, one] of Object.entries(head.details.slices)) {
    const found = matches(Object.entries(one));
    if (found) fields.set(Number(slice), `${found[0]}=${found[1]}`);
  }
  for (const [slice, error] of Object.entries(head.details.errors)) {
    if (error.toLowerCase().includes(wanted)) fields.set(Number(slice), error);
  }
  const tasks = new Set();
  head.texts.forEach((task, i) => i && task.toLowerCase().includes(wanted) && tasks.add(i));
  for (let i = 0; i < col.name.length; i++) {
    if (names.has(col.name[i]) || fields.has(i) || tasks.has(col.task[i])) results.push({ slice: i, why: fields.get(i) || "", time: col.begin[i] });
  }
  for (let i = 0; i < col.pointTime.length; i++) {
    const own = head.details.points[i], found = own && matches(Object.entries(own));
    if (found || head.events[col.pointEvent[i]].toLowerCase().includes(wanted)) results.push({ point: i, why: found ? `${found[0]}=${found[1]}` : "", time: col.pointTime[i] });
  }
  results.sort((a, b) => a.time - b.time);
  const seen = new Set(results.filter((one) => one.slice !== undefined).map((one) => col.name[one.slice]));
  highlight(results.length ? seen : null);
}

function showResults() {
  const list = document.getElementById("found"), box = document.getElementById("search");
  const first = Math.max(0, Math.min(resultAt - 3, results.length - 60));
  const items = results.slice(first, first + 60).map((one, i) => {
    const item = node("li", one.slice === undefined ? pointText(one.point) : `${nameOf(one.slice)} ${durationText(col.duration[one.slice])}`);
    const fields = one.slice === undefined ? {} : fieldsOf(one.slice);
    const why = one.why || Object.entries(fields).slice(0, 3).map(([name, value]) => `${name}=${value}`).join(" ");
    item.append(node("small", `${sinceText(one.time)} ${why}`));
    item.setAttribute("role", "option");
    item.id = `result${first + i}`;
    item.setAttribute("aria-selected", String(first + i === resultAt));
    item.addEventListener("mousedown", (event) => {
      event.preventDefault();
      goTo(first + i);
    });
    return item;
  });
  if (!results.length && box.value) items.push(node("li", "Nothing of that name is in this page", "soft"));
  else if (items.length) items.push(node("li", `${results.length} found`, "soft"));
  list.replaceChildren(...items);
  list.hidden = !box.value;
  box.setAttribute("aria-expanded", String(!list.hidden));
  if (resultAt >= 0) box.setAttribute("aria-activedescendant", `result${resultAt}`);
  else box.removeAttribute("aria-activedescendant");
}

function goTo(number) {
  if (!results.length) return;
  resultAt = (number + results.length) % results.length;
  const one = results[resultAt];
  if (one.slice !== undefined) choose(one.slice);
  else choosePoint(one.point);
  showResults();
}

function startSearch() {
  const box = document.getElementById("search"), list = document.getElementById("found");
  let timer = 0;
  const look = () => {
    search(box.value.trim());
    showResults();
    if (!box.value) highlight(null);
  };
  box.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 80);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "ArrowDown") {
      clearTimeout(timer);
      if (!results.length) look();
      goTo(resultAt + (event.shiftKey ? -1 : 1));
    } else if (event.key === "ArrowUp") goTo(resultAt - 1);
    else if (event.key === "Escape") {
      box.value = "";
      look();
      document.getElementById("canvas").focus();
    } else return;
    event.preventDefault();
  });
  box.addEventListener("blur", () => (list.hidden = true));
  box.addEventListener("focus", () => box.value && showResults());
}
