"""A Space on the Hugging Face Hub: the page of a model, and the folder that is uploaded."""
