"""What people see: the widget and the dashboard in a real Chromium."""
