"""What surecount is measured beside, each in a folder of its own with an environment of its own."""
