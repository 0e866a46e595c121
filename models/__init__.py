"""The models that ship, and the programs that make, convert and study them."""
