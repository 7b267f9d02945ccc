"""The specs: frozen, torch-free values that cross from the form to the store to the process that runs them."""
