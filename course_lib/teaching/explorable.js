// Makes every explorable on the page move that doesn't yet. Its figure is the last one before it.
for (const root of document.querySelectorAll(".explorable[hidden]")) {
  const { states, alts } = JSON.parse(root.querySelector("script").textContent);
  const controls = [...root.querySelectorAll("input, select")];
  const over = document.createElement("img");
  over.alt = "";

  function layOver() { // the changes on top of the figure, at its size
    const before = (image) =>
      image.compareDocumentPosition(root) & Node.DOCUMENT_POSITION_FOLLOWING;
    const figure = [...document.images].filter(before).at(-1);
    const box = document.createElement("span");
    box.style.cssText = "position:relative;display:inline-block";
    figure.replaceWith(box);
    box.append(figure, over);
    over.style.cssText =
      "position:absolute;left:0;top:0;width:100%;height:100%;margin:0;padding:0;" +
      "background:none!important;pointer-events:none";
  }

  function move() {
    let state = 0;
    for (const control of controls) {
      const select = control.tagName === "SELECT";
      const values = select ? control.options : JSON.parse(control.dataset.values);
      const i = select ? control.selectedIndex : Number(control.value);
      state = state * values.length + i;
      if (!select) {
        control.nextElementSibling.value = values[i];
        control.setAttribute("aria-valuetext", values[i]);
      }
    }
    if (!over.isConnected) layOver();
    over.hidden = !states[state];
    over.style.display = states[state] ? "block" : "none";
    if (states[state]) over.src = states[state];
    if (alts.length) over.previousElementSibling.alt = alts[state];
  }

  root.hidden = false;
  root.style.cssText = "font-size:14px;color:inherit;margin:4px 0 8px";
  for (const label of root.querySelectorAll("label")) {
    label.style.cssText =
      "display:grid;grid-template-columns:9em minmax(6em,20em) auto;gap:.8em;align-items:center";
  }
  for (const control of controls) {
    control.style.cssText = "width:100%;margin:3px 0;font:inherit;accent-color:#0072B2";
    control.addEventListener("input", move);
  }
}
