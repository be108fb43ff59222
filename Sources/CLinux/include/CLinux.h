#ifndef MARTLET_CLINUX_H
#define MARTLET_CLINUX_H

#endif
