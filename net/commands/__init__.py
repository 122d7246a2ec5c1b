"""Commands of the control plane: plain Python, one family a file, registered at import."""
