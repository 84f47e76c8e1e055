// Says once that the browser has laid out the figure it came with:  {kind: "arrived"}

const LOOK_EVERY = 30    // milliseconds

export function render({model}) {
  let timer = 0
  const look = () => {
    const view = window.Bokeh.index.find_one_by_id(model.figure)
    const width = view?.model.properties.inner_width
    if (width && !width.is_unset && width.get_value() > 0) model.send_msg({kind: "arrived"})
    else timer = setTimeout(look, LOOK_EVERY)
  }
  look()
  model.on("remove", () => clearTimeout(timer))
  return document.createElement("span")
}
