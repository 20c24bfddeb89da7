// The live face: an explorer in Jupyter. Loaded after charts.js, overlays.js and explorer.js, in one module.

// Several views of one explorer may be open: each label must find its own slider.
function distinguish(explorer) {
  const mark = Math.random().toString(36).slice(2);
  for (const element of [explorer, ...explorer.querySelectorAll("[id]")]) element.id += `-${mark}`;
  for (const element of explorer.querySelectorAll("[for]")) element.setAttribute("for", `${element.getAttribute("for")}-${mark}`);
}

function render({ model, el }) {
  el.innerHTML = model.get("markup");
  const element = el.firstElementChild;
  distinguish(element);
  // JupyterLab would take the arrow keys for itself.
  element.addEventListener("keydown", (event) => event.stopPropagation());
  const explorer = startExplorer(element, model.get("content"), {
    answer: () => model.get("answer"),
    ask: (place) => {
      model.set("place", place);
      model.save_changes();
    },
  });
  const follow = () => explorer.moveTo(model.get("place"));
  model.on("change:answer", explorer.update);
  model.on("change:place", follow);
  follow();
  return () => {
    model.off("change:answer", explorer.update);
    model.off("change:place", follow);
    explorer.stop();
  };
}

export default { render };
