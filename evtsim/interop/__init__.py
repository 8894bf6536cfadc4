"""Formats that other tools write and read: each module one of them."""
