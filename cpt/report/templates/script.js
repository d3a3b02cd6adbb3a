// Tables of class "sortable" sort by a click, Enter or Space on a heading: up, down, and back as written.
// A heading that says `aria-sort` already is sorted by at once. Without this script tables stay as written.
// Cells compare by `data-value`, else by the figure that their text begins with, else by their text.

const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

function own(cell) {
  if (!cell) return "";
  if (cell.dataset.value !== undefined) return cell.dataset.value;
  const copy = cell.cloneNode(true);
  copy.querySelectorAll("small").forEach((note) => note.remove());
  return copy.textContent.trim();
}

function figure(text) {
  const found = text.replace("\u2212", "-").replaceAll(",", "").match(/^[-+<]?(\d+\.?\d*(e[-+]?\d+)?)/);
  return found ? Number(found[0].replace("<", "")) : NaN;
}

function compare(a, b, sign) {
  const empty = (text) => text === "" || text === "\u2013";
  if (empty(a) || empty(b)) return empty(a) - empty(b);
  const [x, y] = [figure(a), figure(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) {
    return Number.isNaN(x) && Number.isNaN(y) ? sign * a.localeCompare(b) : Number.isNaN(x) - Number.isNaN(y);
  }
  return sign * (x - y);
}

function sort(table, written) {
  const headings = [...table.tHead.rows[0].cells];
  const column = headings.findIndex((heading) => heading.ariaSort && heading.ariaSort !== "none");
  const sign = column >= 0 && headings[column].ariaSort === "descending" ? -1 : 1;
  for (const [body, rows] of written) {
    const order = [...rows];
    if (column >= 0) order.sort((a, b) => compare(own(a.cells[column]), own(b.cells[column]), sign));
    body.append(...order);
  }
}

function enhance(table) {
  const written = [...table.tBodies].map((body) => [body, [...body.rows]]);
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.addEventListener("click", () => {
      const next = NEXT[heading.ariaSort ?? "none"];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (next !== "none") heading.ariaSort = next;
      sort(table, written);
    });
  }
  sort(table, written);
}

function enhanceAll() {
  for (const table of document.querySelectorAll("table.sortable")) {
    if (!table.tHead.querySelector("button")) enhance(table);
  }
}

document.addEventListener("cpt:changed", enhanceAll);
enhanceAll();
