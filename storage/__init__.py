"""Rows and transactions: all that the web UI, the worker and its children share. All SQL is here."""
