"use strict";
// Refreshes the part #live of a page. Without this script, reload the page to see changes.
const SECONDS = 5;
let isPaused = false;
let kept = null;

const live = () => document.getElementById("live");
const nameOf = (element) =>
  element.id || `${element.tagName} ${element.name || ""} ${element.value || element.getAttribute("href") || ""}`;

function refresh() {
  const part = live();
  if (!part || document.hidden || isPaused) return;
  const selection = getSelection();
  // A refresh would remove the selection of a person who wants to copy text.
  if (!selection.isCollapsed && part.contains(selection.anchorNode)) return;
  htmx.trigger(part, "refresh");
}

// Without a selected row, the buttons for the selection are off.
function updateButtons() {
  const part = live();
  const isOff = !part?.querySelector("input[name=id]:checked");
  for (const button of part?.querySelectorAll("button[form=bulk]") ?? []) button.disabled = isOff;
}

function tell(text) {
  document.getElementById("stale").textContent = text;
}

document.addEventListener("htmx:beforeSwap", () => {
  const part = live();
  const focused = document.activeElement;
  kept = {
    checked: [...part.querySelectorAll("input:checked")].map(nameOf),
    open: [...part.querySelectorAll("details[open]")].map(nameOf),
    focused: part.contains(focused) ? nameOf(focused) : null,
  };
});

document.addEventListener("htmx:afterSettle", () => {
  for (const element of live().querySelectorAll("input, details, a, button, summary")) {
    const name = nameOf(element);
    if (kept.checked.includes(name)) element.checked = true;
    if (kept.open.includes(name)) element.open = true;
    if (kept.focused === name) element.focus({ preventScroll: true });
  }
  updateButtons();
  tell("");
});

for (const name of ["htmx:sendError", "htmx:responseError"]) {
  document.addEventListener(name, () => tell("The refresh failed, so this page may be out of date. The next attempt is in a few seconds."));
}

document.addEventListener("change", (event) => {
  if (event.target.id === "all-rows") {
    for (const box of live().querySelectorAll("input[name=id]")) box.checked = event.target.checked;
  }
  updateButtons();
});

document.addEventListener("click", (event) => {
  if (event.target.id !== "pause") return;
  isPaused = !isPaused;
  event.target.textContent = isPaused ? "Resume updates" : "Pause updates";
  refresh();
});

document.addEventListener("visibilitychange", refresh);
addEventListener("pageshow", updateButtons); // a browser restores ticked rows
document.documentElement.classList.add("js");
setInterval(refresh, SECONDS * 1000);

// A page that is reloaded does not repeat its message.
const address = new URL(location.href);
address.searchParams.delete("said");
history.replaceState(null, "", address);
