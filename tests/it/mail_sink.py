"""A mail server that keeps what it is given, but for addresses that it holds off: those named in the file `held` beside its folder."""

import pathlib

from aiosmtpd.handlers import Mailbox


class Sink(Mailbox):
    async def handle_RCPT(self, server, session, envelope, address, options):
        held = pathlib.Path(self.mail_dir).parent / "held"
        if held.exists() and address in held.read_text().split():
            return "452 4.2.2 the mailbox is full"
        envelope.rcpt_tos.append(address)
        return "250 OK"
