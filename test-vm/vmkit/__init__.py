# SPDX-License-Identifier: LGPL-2.1-or-later
"""What test-vm/vm.py is made of; users import from there."""
