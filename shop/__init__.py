"""What people see and staff press; also the Django project. Imports inventory and resilience; nobody imports it."""
