"""From files to rows to tokens: read, import, split, render, count."""
