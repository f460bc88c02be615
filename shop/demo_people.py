"""Who can sign in to the demo: printed by `make up`, created by `manage.py demo`. Never people of a real shop."""

STAFF_NAME = "staff"
STAFF_PASSWORD = "staff"

#: Shoppers of the demo, named shopper1, shopper2 and so on: enough to see a small crowd by hand.
SHOPPERS = 20
SHOPPER_PASSWORD = "flash-sale"
