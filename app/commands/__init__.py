"""The commands of `atelier`, one noun a file. Each is loaded only when it is called."""
