"""Its being here makes this folder's helper modules importable in the folders below."""
