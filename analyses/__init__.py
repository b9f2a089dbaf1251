"""What kdprobe measures: `cka`, `similarity`, `knowledge`, `evaluation`, and `hsic`, `dropout` and `complexity`."""
