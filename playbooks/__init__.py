"""The same jobs for people who run Ansible: each play calls the rooms below, and the same gates."""
