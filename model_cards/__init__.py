"""The model card template, shipped beside the code that fills it."""
