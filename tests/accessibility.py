"""A check of a page's structure, run in the browser: what a screen reader and a keyboard rely on."""

from __future__ import annotations

from typing import Any

CHECK = """
() => {
  const found = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const tell = (what, element) => found.push(`${what}: ${element.outerHTML.slice(0, 120)}`);
  const named = (ids) => ids.split(/\\s+/).map((id) => document.getElementById(id)?.textContent).join(" ");
  const name = (element) =>
    (element.getAttribute("aria-label") ?? (named(element.getAttribute("aria-labelledby") ?? "").trim()
      || element.querySelector(":scope > title")?.textContent || element.textContent)).trim();

  if (!document.documentElement.lang) found.push("the page has no language");
  if (!document.title.trim()) found.push("the page has no title");
  for (const landmark of ["main", "h1", "header", "footer", "nav"]) {
    const count = all(landmark).length;
    if (landmark === "nav" ? count < 1 : count !== 1) found.push(`${count} of ${landmark}`);
  }
  const skip = document.querySelector("body > a.skip");
  if (!skip || document.querySelector("a, button, [tabindex]") !== skip) found.push("no skip link first");
  let above = 0;
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const level = Number(heading.tagName[1]);
    if (level > above + 1) tell("a heading skips a level", heading);
    above = level;
  }
  const ids = all("[id]").map((element) => element.id);
  ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => found.push(`id ${id} twice`));
  for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
    for (const element of all(`[${attribute}]`)) {
      for (const id of element.getAttribute(attribute).split(/\\s+/)) {
        if (!document.getElementById(id)) tell(`${attribute} names nothing`, element);
      }
    }
  }
  for (const link of all("a[href^='#']")) {
    if (!document.querySelector(link.getAttribute("href"))) tell("a link leads nowhere", link);
  }
  for (const image of all("img:not([alt]), svg:not([role='img']):not([aria-hidden='true'])")) {
    if (!image.closest("svg[role='img'], [aria-hidden='true']")) tell("an image has no text", image);
  }
  for (const element of all("a, button, [role='img'], [role='region'], [role='progressbar'], section, nav")) {
    if (!name(element)) tell("no accessible name", element);
  }
  for (const table of all("table")) {
    for (const heading of table.querySelectorAll("th:not([scope])")) tell("a heading without scope", heading);
  }
  for (const box of all("main *")) {
    const scrolls = ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
    if (scrolls && box.scrollWidth > box.clientWidth && box.tabIndex < 0) tell("no way in by keyboard", box);
  }
  for (const element of all("[tabindex]")) if (element.tabIndex > 0) tell("a tabindex above 0", element);
  return found;
}
"""
"""Problems in words; an empty list if there are none. For `Visit.ask`."""

CONTRAST = """
() => {
  const channel = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) =>
    0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const behind = (element) => {
    for (let node = element; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = new Map();
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!words || element.closest("svg, script, style")) continue;
    const style = getComputedStyle(element);
    if (style.visibility === "hidden" || style.display === "none") continue;
    const [a, b] = [luminance(parse(style.color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.set(`${element.tagName} .${element.className}`, ratio.toFixed(2));
  }
  return Object.fromEntries(found);
}
"""
"""Elements whose text stands out too little (WCAG 2: 4.5 to 1), with their ratio."""


def problems(visit: Any) -> list[str]:
    """What is wrong with an open page's structure and contrast."""
    faint = visit.ask(CONTRAST)
    return [*visit.ask(CHECK), *(f"faint: {what} {ratio}" for what, ratio in faint.items())]
