"""The programs that are measured. Each module has `build(size, device)`, which returns a `common.Subject`."""
