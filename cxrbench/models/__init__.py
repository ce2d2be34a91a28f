"""Adapters: one module an architecture, behind one interface."""
