"""A trained model for other engines: written by `engines.export_model`, and run again by `engines.load_exported`.

    folder.py              what an exported folder holds besides the graphs
    engines.py             the two entrances, which pick one of:
    onnx.py                    tracing a model into ONNX graphs
    onnx_model.py              running those on ONNX Runtime
    ctranslate2.py             putting a model's weights into CTranslate2's layout
    ctranslate2_model.py       running that on CTranslate2

Neither engine is needed to import any of these files: each asks for its packages when it is used.
"""
