// Asks for the page again and again, and changes only what differs: what is scrolled, sorted, selected,
// opened or focused stays so. The server answers "204 No Content" while there is nothing new.

const EVERY = 2000; // milliseconds

const served = new WeakMap(); // sortable table -> its HTML as it came

function isSortable(node) {
  return node.nodeName === "TABLE" && node.classList.contains("sortable");
}

function remember(root) {
  const tables = isSortable(root) ? [root] : root.querySelectorAll("table.sortable");
  for (const table of tables) served.set(table, table.outerHTML);
}

// A table that was sorted is replaced as a whole, and sorted in the same way.
function renew(table, fresh) {
  if (served.get(table) === fresh.outerHTML) return;
  remember(fresh);
  const headings = [...table.tHead.rows[0].cells];
  const focused = headings.findIndex((heading) => heading.contains(document.activeElement));
  const column = headings.findIndex((heading) => heading.hasAttribute("aria-sort"));
  const order = headings[column]?.getAttribute("aria-sort");
  if (order) fresh.tHead.rows[0].cells[column]?.setAttribute("aria-sort", order);
  table.replaceWith(fresh);
  document.dispatchEvent(new Event("cpt:changed"));
  fresh.tHead.rows[0].cells[focused]?.querySelector("button")?.focus({ preventScroll: true });
}

function changeAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function insert(parent, fresh, before) {
  if (fresh.nodeType === Node.ELEMENT_NODE) remember(fresh);
  parent.insertBefore(fresh, before);
  document.dispatchEvent(new Event("cpt:changed"));
}

// Children with an id are matched by it, others by their place.
function changeChildren(old, fresh) {
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    if (child.id && at?.id !== child.id) {
      const same = [...old.children].find((other) => other.id === child.id);
      while (same && at !== same) {
        const next = at.nextSibling;
        at.remove();
        at = next;
      }
      if (!same) {
        insert(old, child, at);
        continue;
      }
    }
    if (!at) {
      insert(old, child, null);
      continue;
    }
    const next = at.nextSibling;
    change(at, child);
    at = next;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function change(old, fresh) {
  if (isSortable(old) && isSortable(fresh)) renew(old, fresh);
  else if (old.nodeName !== fresh.nodeName) {
    insert(old.parentNode, fresh, old);
    old.remove();
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else {
    changeAttributes(old, fresh);
    changeChildren(old, fresh);
  }
}

async function refresh() {
  const version = document.getElementById("state").dataset.version;
  const answer = await fetch(`/?since=${encodeURIComponent(version)}`, { cache: "no-store" }).catch(() => null);
  const text = answer?.status === 200 ? await answer.text().catch(() => "") : "";
  document.getElementById("lost").hidden = answer !== null;
  if (!text) return;
  const page = new DOMParser().parseFromString(text, "text/html");
  document.title = page.title;
  change(document.body, page.body);
}

async function follow() {
  if (!document.hidden) await refresh();
  setTimeout(follow, EVERY);
}

remember(document);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
setTimeout(follow, EVERY);
