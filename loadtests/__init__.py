"""Load from outside and speed from inside: what the shop does when it is pushed. `bench` compares its parts."""
