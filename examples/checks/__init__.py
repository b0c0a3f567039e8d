"""`make examples`: each application up, asked, hurt, stopped, started again with its data, and removed, as a table.

`steps` says which steps there are and prints them; `machine` gives each run a node of its own in network and mount
namespaces; one module an application says what to ask it and what to look for. `user` is the person at the terminal.
"""
