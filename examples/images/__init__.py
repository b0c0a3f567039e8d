"""How the examples' images are made: `recipes` say of what, `layers` make root file systems and differences of them."""
