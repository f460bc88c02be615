"""A toolbox for any Python web program under load. Knows no model, no request and no shop."""
