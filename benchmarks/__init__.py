"""How fast the course's code is, by itself and beside other programs that do the same. Run by `make bench`."""
