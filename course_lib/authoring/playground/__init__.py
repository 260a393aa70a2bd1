"""The course's text-to-image model in a web page, without a server behind it.

export      the model's parts as ONNX files, compared with PyTorch
packages    onnxruntime-web and TypeScript, by version and checksum, from npm
captions    the menus and examples that the page offers for each model
build       the folder of the page: `page/`, the models, the runtime, and manifest.json
serve       that folder on localhost: `course play`
page/       the page itself: plain ES modules, whose types `tsc` checks
"""
