"""The formats of model files: GGUF, and folders of safetensors."""
