"""More work than there are hands: what a room at the door keeps going, and what a guard spares."""
