"""What the explorers of the chapters vary and compute, one module an explorer."""
