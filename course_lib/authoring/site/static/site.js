// Whatever scrolls sideways can be reached with the keyboard; a link into a fold opens it.
function reachable() {
  for (const box of document.querySelectorAll("pre, .formula, .table-wrapper, .cell_output")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let fold = target; (fold = fold?.closest("details:not([open])")); ) fold.open = true;
  if (target?.closest("details")) target.scrollIntoView();
}

addEventListener("DOMContentLoaded", reachable);
addEventListener("DOMContentLoaded", unfold);
document.fonts.ready.then(reachable); // the font for formulas is there
addEventListener("resize", reachable);
addEventListener("hashchange", unfold);
addEventListener("toggle", reachable, true);
