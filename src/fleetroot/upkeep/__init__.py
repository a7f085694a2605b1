"""What is done to an installation as a whole: its master key is changed, it is backed up, restored.

This room knows where every secret is sealed and nothing of what the secrets are for. It may import
the other rooms, of which it needs tables and names; what it needs of a wire is passed in.
"""
