"""For granian, which wants the name of an application."""

from loadtests.contenders.lanes.plain import django

application = django()
