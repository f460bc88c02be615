"""Breaking things on purpose while people buy, and judging what they see: `make drill`."""
