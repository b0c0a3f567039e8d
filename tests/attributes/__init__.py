"""What each attribute of a Compose file means, as tables that tests run and the documentation is made from."""
