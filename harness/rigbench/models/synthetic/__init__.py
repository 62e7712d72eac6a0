"""Models of random weights: a GGUF file, or a folder of safetensors."""
