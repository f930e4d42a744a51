"""What the GPU sampler reads on a real GPU, against nvidia-smi and under known work."""
