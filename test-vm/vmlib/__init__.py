# SPDX-License-Identifier: LGPL-2.1-or-later
"""The launcher's parts; users import from vm."""
